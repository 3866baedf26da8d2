//! Any bytes as a results.json.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::record::bytes_are_a_record_or_an_error;

fuzz_target!(|bytes: &[u8]| bytes_are_a_record_or_an_error(bytes));
