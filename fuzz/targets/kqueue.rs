//! Any records of kevent(2), merged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark_backends::kqueue::properties::{Step, every_wait_reports_the_union_of_its_records};

fuzz_target!(|steps: Vec<Step>| every_wait_reports_the_union_of_its_records(&steps));
