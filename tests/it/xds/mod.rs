//! Configuration by a control plane, through the front door, over memory.

mod calls;
mod catalogue;
mod clusters;
mod descriptors;
mod equivalence;
mod filters;
mod loss;
mod messages;
mod peers;
mod plane;
mod reports;
mod security;
