//! Frames, whole, broken and too long, in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::protocol::{Said, frames_come_back};

fuzz_target!(|said: Said| frames_come_back(&said));
