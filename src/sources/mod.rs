//! Where models and texts come from: folders, the hub, files of every format, chats, labelled sets, and the device they
//! run on.

pub mod chat;
pub mod device;
pub mod hub;
pub mod labelled;
pub mod leakage;
pub mod text;
