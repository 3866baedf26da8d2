//! A good results.json, changed in any places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::record::{Change, a_changed_record_can_be_shown_or_is_refused};

fuzz_target!(|input: (u8, Vec<Change>)| a_changed_record_can_be_shown_or_is_refused(input.0, &input.1));
