//! Was a connection's end missed? tp_btf/tcp_destroy_sock: the backstop.
//!
//! Adopted connections on kernels before 6.12 have no callbacks; their record is sent here, with `FROM_DESTROY`. For
//! every other one this is a look at its storage. A BTF tracepoint is skipped when it interrupts itself on a CPU; the
//! kernel counts that, and the spine does not depend on it.

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_common::{record::flag, tcp::state};

use crate::{
    emit,
    kernel::{TcpSock, read_arg, storage_get},
    maps::STATES,
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn destroy(ctx: BtfTracePointContext) -> Option<()> {
    let sk = read_arg(ctx.as_ptr(), 0);
    let flow = storage_get(&STATES, sk)?;
    if flow.flags & flag::FINISHED == 0 {
        flow.flags |= flag::FROM_DESTROY;
        emit::close(TcpSock::new(sk)?, flow, state::CLOSE);
    }
    Some(())
}
