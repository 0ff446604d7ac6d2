//! Tests from the outside, one binary.

mod hub;
