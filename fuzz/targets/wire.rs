//! Any line between parent and child.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::wire::what_is_understood_is_written_alike;

fuzz_target!(|line: &[u8]| what_is_understood_is_written_alike(line));
