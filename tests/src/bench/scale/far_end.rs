//! A gateway that is all endpoints at once: it has every address that is probed, and takes every connection.

use std::{net::Ipv4Addr, thread::JoinHandle};

use anyhow::{Context, Result};
use tokio::{net::TcpListener, sync::oneshot};

use crate::topology::Vnet;

/// VIPs, which endpoints with direct server return have, and the endpoints' own addresses.
const NETWORKS: [&str; 2] = ["198.18.0.0/15", "10.1.0.0/16"];
/// Ports of services and of endpoints behind address translation.
const PORTS: [u16; 2] = [80, 8080];

/// Its servers; they stop when it is dropped.
pub struct FarEnd {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl FarEnd {
    /// Makes the gateway of `vnet` one. The servers listen when this returns.
    pub fn start(vnet: &Vnet) -> Result<Self> {
        for network in NETWORKS {
            vnet.gateway.ip(&format!("route add local {network} dev lo"))?;
        }
        let (stop, stopped) = oneshot::channel();
        let listeners = vnet.gateway.run(|| {
            let listen = |port| -> Result<_> {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
                socket.listen(4096)?;
                socket.set_nonblocking(true)?;
                Ok(std::net::TcpListener::from(socket))
            };
            PORTS.into_iter().map(listen).collect::<Result<Vec<_>>>()
        })?;
        let serve = move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let tasks = listeners.into_iter().map(|listener| -> Result<_> {
                    let listener = TcpListener::from_std(listener)?;
                    Ok(tokio::spawn(async move {
                        // A probe that has reset its connection by now is an error, and nothing to do.
                        loop {
                            drop(listener.accept().await);
                        }
                    }))
                });
                let tasks = tasks.collect::<Result<Vec<_>>>()?;
                let _ended = stopped.await;
                tasks.iter().for_each(tokio::task::JoinHandle::abort);
                Ok(())
            })
        };
        let thread = std::thread::Builder::new().name("far-end".to_owned()).spawn(serve);
        Ok(Self { stop: Some(stop), thread: Some(thread.context("cannot start the thread of the far end")?) })
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("lbx-tests: the far end had failed: {error:#}");
        }
    }
}
