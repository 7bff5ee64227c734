//! The packet pipeline of lbx as pure functions, and the types that kernel, agent and CLI share.
//!
//! Rules of this crate:
//! - Without features it is `no_std`, allocates nothing, uses no floats and cannot panic: the same code is
//!   verified and run by the kernel.
//! - It does no I/O. State comes in through [`tables::Tables`], packet bytes through [`packet::Packet`].
//! - Byte order: a value that stands in a packet or a map as it goes on the wire is a [`bytes::Be16`] or
//!   [`bytes::Be32`] or a byte array; a plain integer is always in host order.

#![cfg_attr(not(any(test, feature = "api")), no_std)]

pub mod abi;
#[cfg(feature = "api")]
pub mod api;
