//! An echo, in any pieces and with any order of calls.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::core::{Step, an_echo_is_what_came_in};

fuzz_target!(|steps: Vec<Step>| an_echo_is_what_came_in(&steps));
