//! flowprobe's kernel side: observes TCP sockets and writes records of them. It decides nothing.
//!
//! One file in `probes/` a question; `kernel/` alone reads kernel structures.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod difference;
mod emit;
mod kernel;
mod maps;
mod probes;
mod state;

/// Programs that walk kernel structures must be under a GPL-compatible licence (kernel/bpf/verifier.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier refuses an endless loop, and so every object in which a panic can be reached.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
