//! What a click is, how clicks add up, and which of them count: pure values and rules, no I/O.

pub mod agent;
pub mod click;
pub mod counts;
pub mod hot;
pub mod interval;
pub mod ledger;
pub mod letter;
pub mod packed;
pub mod position;
pub mod quarter;
pub mod rollup;
pub mod salt;
pub mod values;
pub mod visitors;
