//! A protocol of lines, in any pieces and with any order of calls.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::core::{Step, a_conversation_does_not_depend_on_how_it_is_cut};

fuzz_target!(|steps: Vec<Step>| a_conversation_does_not_depend_on_how_it_is_cut(&steps));
