//! Headers of the PROXY protocol, and what is none, in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::protocol::{Said, headers_are_read_alike};

fuzz_target!(|said: Said| headers_are_read_alike(&said));
