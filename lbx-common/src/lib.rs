//! The packet pipeline of lbx as pure functions, and the types that kernel, agent and CLI share.
//!
//! Rules of this crate:
//! - Without features it is `no_std`, allocates nothing, uses no floats and cannot panic: the same code is
//!   verified and run by the kernel.
//! - It does no I/O. State comes in through [`tables::Tables`], packet bytes through [`packet::Packet`].
//! - Byte order: a value that stands in a packet or a map as it goes on the wire is a [`bytes::Be16`] or
//!   [`bytes::Be32`] or a byte array; a plain integer is always in host order.

#![cfg_attr(not(any(test, feature = "api")), no_std)]
// In the kernel an arithmetic overflow would be a panic, and a panic does not load.
#![cfg_attr(not(any(test, feature = "api")), warn(clippy::arithmetic_side_effects))]
#![expect(clippy::inline_always, reason = "a call in the packet path costs more than the code saves")]

pub mod abi;
pub mod affinity;
#[cfg(feature = "api")]
pub mod api;
pub mod bytes;
pub mod checksum;
pub mod decap;
pub mod encap;
pub mod hash;
pub mod icmp;
pub mod ip;
pub mod link;
#[cfg(feature = "man")]
pub mod man;
pub mod mss;
pub mod nat;
pub mod packet;
pub mod pins;
pub mod pipeline;
pub mod policy;
pub mod reason;
pub mod region;
pub mod routes;
pub mod select;
pub mod tables;
pub mod track;
pub mod transport;
