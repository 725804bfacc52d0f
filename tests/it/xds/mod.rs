//! Configuration by a control plane, through the front door, over memory.

mod calls;
mod filters;
mod loss;
mod messages;
mod plane;
