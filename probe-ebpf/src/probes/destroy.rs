//! Was a connection's end missed? tp_btf/tcp_destroy_sock: the backstop.
//!
//! Adopted connections on kernels before 6.12 have no callbacks; their record is sent here, with `FROM_DESTROY`. For
//! every other one this is a look at its storage. A BTF tracepoint is skipped when it interrupts itself on a CPU, and the
//! kernel counts that. It does so here: a backlog that is worked off in release_sock destroys sockets with softirqs on. So
//! before 6.12 there are two of these programs: a softirq that interrupts one finds the other free, and softirqs do not nest.

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_common::{
    record::{flag, role},
    tcp::state,
};

use crate::{
    emit,
    kernel::{TcpSock, read_arg, storage_get},
    maps::STATES,
};

#[btf_tracepoint(function = "tcp_destroy_sock")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn destroy(ctx: BtfTracePointContext) -> Option<()> {
    last_look(&ctx)
}

/// The same, for what interrupts `destroy`; each connection's end is sent by the one that comes first.
#[btf_tracepoint(function = "tcp_destroy_sock")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn destroy_nested(ctx: BtfTracePointContext) -> Option<()> {
    last_look(&ctx)
}

#[inline(always)]
fn last_look(ctx: &BtfTracePointContext) -> Option<()> {
    let sk = read_arg(ctx.as_ptr(), 0);
    let flow = storage_get(&STATES, sk)?;
    if flow.flags & flag::FINISHED == 0 {
        flow.flags |= flag::FROM_DESTROY;
        if flow.role() == role::SERVER {
            // Its callbacks were gone before the handshake's end was told.
            flow.flags |= flag::ESTABLISHED;
        }
        emit::close(TcpSock::new(sk)?, flow, state::CLOSE);
    }
    Some(())
}
