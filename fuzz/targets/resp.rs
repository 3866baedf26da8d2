//! Commands of Redis, and what is none, in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::protocol::{Said, commands_are_executed_alike};

fuzz_target!(|said: Said| commands_are_executed_alike(&said));
