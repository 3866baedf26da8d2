//! Any bits of poll(2) and epoll(7), translated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark_backends::properties::an_answer_means_what_its_bits_mean;

fuzz_target!(|answer: (u64, u16, u16)| an_answer_means_what_its_bits_mean(answer.0, answer.1, answer.2));
