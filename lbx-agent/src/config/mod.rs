//! From text to a validated model, with every mistake reported at once.

pub mod model;
