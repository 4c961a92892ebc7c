#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skywave_fuzz::pins::run(input));
