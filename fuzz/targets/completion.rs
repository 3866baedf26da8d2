//! Any completions of io_uring(7)'s accepts, receives and sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark_backends::completion::properties::{
    Step, a_completion_says_what_its_bits_say, what_fell_short_is_what_was_not_taken, what_is_lent_comes_back_once,
};

fuzz_target!(|input: (u64, i32, u32, Vec<u8>, Vec<u8>, Vec<Step>)| {
    let (user_data, result, flags, bytes, cuts, steps) = input;
    a_completion_says_what_its_bits_say(user_data, result, flags);
    what_fell_short_is_what_was_not_taken(&bytes, &cuts, result);
    what_is_lent_comes_back_once(&steps);
});
