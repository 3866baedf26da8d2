//! Any arguments of the command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::arguments::what_is_typed_is_understood_or_explained;

fuzz_target!(|text: &[u8]| what_is_typed_is_understood_or_explained(text));
