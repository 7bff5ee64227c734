//! Tells which network devices came, went or changed, by the kernel's own events. Nothing here polls, and nothing is
//! decided: whoever is told looks for himself.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{Stream, StreamExt};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{RouteNetlinkMessage, link::LinkMessage},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    NetError, netlink,
    port::{Leaves, leaves},
};

/// Time in which further events are gathered after the first one: a device that is made tells several.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Devices that came, went or changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Their indexes.
    pub indexes: BTreeSet<u32>,
    /// Whether one of them is a VLAN device.
    pub vlans: bool,
    /// Any may have: events were lost.
    pub any: bool,
}

impl Changed {
    /// Adds others.
    pub fn merge(&mut self, other: Self) {
        let Self { indexes, vlans, any } = other;
        self.indexes.extend(indexes);
        self.vlans |= vlans;
        self.any |= any;
    }

    fn add(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) {
        use RouteNetlinkMessage as Message;
        if let NetlinkPayload::InnerMessage(Message::NewLink(link) | Message::DelLink(link)) = payload {
            self.add_link(link);
        } else {
            // What arrives beside links are the kernel's words for lost events.
            self.any = true;
        }
    }

    fn add_link(&mut self, link: &LinkMessage) {
        self.indexes.insert(link.header.index);
        self.vlans |= leaves(link) != Leaves::Untagged;
    }
}

/// Tells of devices until `token` is cancelled or nobody wants to hear any more. First that any may have changed.
pub fn spawn(
    token: CancellationToken,
    tx: mpsc::Sender<Changed>,
) -> Result<JoinHandle<Result<(), NetError>>, NetError> {
    let payloads = netlink::listen(&[MulticastGroup::Link])?;
    Ok(tokio::spawn(async move { token.run_until_cancelled(tell(payloads, tx)).await.unwrap_or(Ok(())) }))
}

async fn tell(
    payloads: impl Stream<Item = NetlinkPayload<RouteNetlinkMessage>>,
    tx: mpsc::Sender<Changed>,
) -> Result<(), NetError> {
    let mut payloads = std::pin::pin!(payloads);
    let closed = || NetError::Open(std::io::Error::other("the one for events of devices was closed"));
    let mut changed = Changed { any: true, ..Changed::default() };
    while tx.send(changed).await.is_ok() {
        changed = Changed::default();
        changed.add(&payloads.next().await.ok_or_else(closed)?);
        let deadline = Instant::now() + DEBOUNCE;
        while let Ok(payload) = tokio::time::timeout_at(deadline, payloads.next()).await {
            changed.add(&payload.ok_or_else(closed)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Namespace;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn a_device_is_told_when_it_comes_changes_and_goes() {
        let namespace = Namespace::new();
        namespace.block_on(async || {
            let (tx, mut rx) = mpsc::channel(1);
            let token = CancellationToken::new();
            let task = spawn(token.clone(), tx).unwrap();
            let first = rx.recv().await.unwrap();
            assert_eq!(first, Changed { any: true, ..Changed::default() });
            for action in ["add one0 index 77 type bridge", "set one0 mtu 1400", "del one0"] {
                namespace.ip(&format!("link {action}"));
                let told = tokio::time::timeout(PATIENCE, rx.recv()).await.unwrap().unwrap();
                assert!(told.indexes.contains(&77) && !told.any && !told.vlans, "{action}: {told:?}");
            }
            token.cancel();
            task.await.unwrap().unwrap();
        });
    }

    #[tokio::test]
    async fn lost_events_may_have_been_about_any_device() {
        let (tx, mut rx) = mpsc::channel(4);
        let lost = futures_util::stream::iter([NetlinkPayload::Overrun(Vec::new())]);
        let error = tell(lost, tx).await.unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        assert!(rx.recv().await.unwrap().any);
    }

    #[test]
    fn what_is_merged_is_all_there() {
        let mut one = Changed { indexes: [1].into(), vlans: true, any: false };
        one.merge(Changed { indexes: [2].into(), vlans: false, any: true });
        assert_eq!(one, Changed { indexes: [1, 2].into(), vlans: true, any: true });
    }
}
