//! Chats: conversations, rendered to text by the model's own template.
//!
//! ```text
//! messages, tools ── Chat ──┐
//! the model's folder ── ChatTemplate ── render ──> Rendered { text, turns } ── Tokenizer ──> ids ── TurnPositions
//! ```
//!
//! A template is a program from the hub, in Jinja. It runs in an interpreter that reaches no file and no network, with
//! as much to do as a long chat needs and no more. What it renders is what `apply_chat_template` of transformers
//! renders.

mod chats;
mod clock;
mod conversation;
mod error;
mod jinja;
mod methods;
mod positions;
mod python;
mod render;
mod template;
mod turns;

pub use chats::Chats;
pub use clock::Clock;
pub use conversation::{Chat, chats};
pub use error::ChatError;
pub use positions::{TurnPositions, TurnSelector, TurnSelectorError};
pub use render::{Ending, Rendered};
pub use template::{ChatTemplate, TemplateSettings};
pub use turns::Turn;
