//! Fuzzes [`Target::Router`].
#![no_main]

use lbx_tests::fuzz::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Router.run(input));
