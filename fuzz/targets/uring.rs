//! Any completions of io_uring(7)'s polls, judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark_backends::uring::properties::{
    Step, a_completion_names_its_poll, every_completion_is_told_or_asked_about_again_or_nobodys,
};

fuzz_target!(|input: (u32, i32, Vec<Step>)| {
    a_completion_names_its_poll(input.0, input.1);
    every_completion_is_told_or_asked_about_again_or_nobodys(&input.2);
});
