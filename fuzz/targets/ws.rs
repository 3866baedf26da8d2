//! Frames of WebSockets, and what is none, in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::protocol::{Said, messages_come_back_alike};

fuzz_target!(|said: Said| messages_come_back_alike(&said));
