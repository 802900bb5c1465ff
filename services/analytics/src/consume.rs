//! What is read from the topic `link-events`: folded into rollups ([`aggregator`], [`folder`]), and watched ([`tail`]).

pub mod aggregator;
pub mod decode;
mod fold;
pub mod folder;
pub mod lookout;
pub mod plan;
pub mod redrive;
pub mod tail;
pub mod watch;
