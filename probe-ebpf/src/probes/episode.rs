//! How long do losses hold a connection up, and were they losses? tp_btf/tcp_cong_state_set (since Linux 5.19).
//!
//! Called when the congestion state is set: a few times a loss or a reordering, once or twice a connection, never per
//! packet. An episode
//! begins with Recovery or Loss and ends with any other state. The kernel takes an episode back when it learns, from echoed
//! timestamps (Eifel, RFC 3522), DSACK or F-RTO, that nothing had been lost; it then clears `undo_marker` before it sets the
//! state (tcp_undo_cwnd_reduction), and leaves it set when the episode ends otherwise (tcp_try_undo_recovery).

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use probe_common::{record::flag, tcp::ca_state};

use super::stall;
use crate::{
    kernel::{TcpSock, read_arg, storage_get},
    maps::{STATES, TROUBLES},
    state::Trouble,
};

#[btf_tracepoint(function = "tcp_cong_state_set")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn episode(ctx: BtfTracePointContext) -> Option<()> {
    let sk = read_arg(ctx.as_ptr(), 0);
    let ca_state = read_arg(ctx.as_ptr(), 1).addr() as u8;
    let losing = is_losing(ca_state);
    if !losing {
        // Nothing to end in a connection that had no trouble yet: most calls leave here.
        storage_get(&TROUBLES, sk)?;
    }
    let flow = storage_get(&STATES, sk)?;
    if ca_state != ca_state::LOSS {
        flow.flags &= !flag::LOSS_BY_TIMER;
    }
    if flow.flags & flag::ESTABLISHED == 0 {
        return None; // a SYN that timed out
    }
    let tp = TcpSock::new(sk)?;
    let trouble = flow.in_trouble(sk)?;
    stall::look(tp, flow, trouble);
    match (losing, trouble.episode_began_ns != 0) {
        (true, false) => begin(tp, trouble),
        // From Recovery to Loss is one episode, which may have lost its mark or got a new one.
        (true, true) => trouble.episode_undoable = u32::from(tp.may_undo()),
        (false, true) => {
            let undone = trouble.episode_undoable != 0 && !tp.may_undo();
            end(tp, trouble, undone);
        }
        (false, false) => {}
    }
    Some(())
}

pub(super) const fn is_losing(ca_state: u8) -> bool {
    ca_state == ca_state::RECOVERY || ca_state == ca_state::LOSS
}

/// Sets right what a skipped run left, at the callbacks that are never skipped. An end that was missed is late by a round
/// trip at most.
#[inline(always)]
pub(super) fn heal(tp: TcpSock, trouble: &mut Trouble, ca_state: u8) {
    match (is_losing(ca_state), trouble.episode_began_ns != 0) {
        (true, false) => begin(tp, trouble),
        (false, true) => end(tp, trouble, false),
        _ => {}
    }
}

#[inline(never)]
fn begin(tp: TcpSock, trouble: &mut Trouble) {
    // SAFETY: no argument, no effect.
    trouble.episode_began_ns = unsafe { bpf_ktime_get_ns() };
    trouble.episode_retrans_before = tp.total_retrans();
    trouble.episode_undoable = u32::from(tp.may_undo());
    trouble.loss_episodes = trouble.loss_episodes.wrapping_add(1);
    let dsacks = tp.dsacks();
    settle(trouble, dsacks);
    trouble.dsacks_at_begin = dsacks;
}

/// Ends the present episode, if there is one; a connection that closes in one ends it too.
#[inline(never)]
pub(crate) fn end(tp: TcpSock, trouble: &mut Trouble, undone: bool) {
    if trouble.episode_began_ns == 0 {
        return;
    }
    // SAFETY: no argument, no effect.
    let us = unsafe { bpf_ktime_get_ns() }.wrapping_sub(trouble.episode_began_ns) / 1000;
    trouble.episode_began_ns = 0;
    trouble.loss_episode_us += us;
    trouble.loss_episode_max_us = trouble.loss_episode_max_us.max(us.min(u64::from(u32::MAX)) as u32);
    if undone {
        trouble.undone_episodes = trouble.undone_episodes.wrapping_add(1);
        let dsacks = tp.dsacks();
        settle(trouble, dsacks);
        let segs = tp.total_retrans().wrapping_sub(trouble.episode_retrans_before);
        trouble.needless_credit = segs.saturating_sub(dsacks.wrapping_sub(trouble.dsacks_at_begin));
        trouble.dsacks_at_end = dsacks;
    }
}

/// Reports that came since the last episode was taken back were most likely of its segments: they are not counted twice.
#[inline(always)]
fn unreported(trouble: &Trouble, dsacks: u32) -> u32 {
    trouble.needless_credit.saturating_sub(dsacks.wrapping_sub(trouble.dsacks_at_end))
}

#[inline(always)]
fn settle(trouble: &mut Trouble, dsacks: u32) {
    trouble.needless_settled = trouble.needless_settled.wrapping_add(unreported(trouble, dsacks));
    trouble.needless_credit = 0;
}

/// Segments sent again without need, by either evidence. Only grows: a report takes off the credit what it adds.
#[inline(always)]
pub(crate) fn needless(trouble: &Trouble, dsacks: u32) -> u32 {
    dsacks.wrapping_add(trouble.needless_settled).wrapping_add(unreported(trouble, dsacks))
}
