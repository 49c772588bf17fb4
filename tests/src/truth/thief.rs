//! Takes other programs' callbacks away, as a sock_ops program does that sets its own without those that are there: from every
//! server's socket whose handshake is done. The last program that was attached runs last, so it has its way.

use anyhow::{Context as _, Result};

use super::tiny::{Point, Tiny, instruction};

/// BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB and BPF_FUNC_sock_ops_cb_flags_set (include/uapi/linux/bpf.h).
const PASSIVE_ESTABLISHED_CB: i32 = 5;
const CB_FLAGS_SET: i32 = 59;

/// if context.op == PASSIVE_ESTABLISHED_CB { sock_ops_cb_flags_set(context, 0) }; return 1.
const PROGRAM: [u64; 6] = [
    instruction(0x61, 0x12, 0, 0),
    instruction(0x55, 2, 2, PASSIVE_ESTABLISHED_CB),
    instruction(0xb7, 2, 0, 0),
    instruction(0x85, 0, 0, CB_FLAGS_SET),
    instruction(0xb7, 0, 0, 1),
    instruction(0x95, 0, 0, 0),
];

/// The attached program; it goes when dropped.
#[derive(Debug)]
pub struct Thief(#[expect(dead_code, reason = "held, so that it stays attached")] Tiny);

impl Thief {
    /// Load and attach it.
    ///
    /// # Errors
    /// When there is no cgroup v2, or the kernel refuses.
    pub fn start() -> Result<Self> {
        let tiny = Tiny::start(Point::SockOps, "thief", &PROGRAM);
        Ok(Self(tiny.context("cannot start the thief of callbacks")?))
    }
}
