//! The only room that reads kernel structures: fields by their injected place, storage and helpers with types.

mod place;
mod socket;
mod storage;

pub(crate) use place::read_arg;
pub(crate) use socket::{Limits, Request, TcpSock, state_of};
pub(crate) use storage::{storage_create, storage_delete, storage_get};
