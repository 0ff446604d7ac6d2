//! Where the contents of messages are in a rendered chat.

use serde_json::{Map, Value};

use super::{Chat, ChatError, ChatTemplate, Ending};

/// The content of one message in the text, without the white space around it, which many templates take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which message, from 0.
    pub turn: usize,
    /// Its role.
    pub role: String,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Characters for private use, one per message, in front of its content; [`CLOSE`] is behind it.
const OPEN: u32 = 0xF0100;
const CLOSE: char = '\u{F0001}';
/// Messages that can be marked.
const MOST: usize = 0xFE00;

impl ChatTemplate {
    /// Where the contents of messages are in `text`, which is the chat as it is rendered. Marks are put around the
    /// contents and the chat is rendered again. Where a template looks into contents so that marks change what it does,
    /// they are looked for in their order.
    ///
    /// # Errors
    /// A template that fails, or renders a content otherwise than it is.
    pub fn turns(&self, chat: &Chat, ending: Ending, text: &str) -> Result<Vec<Turn>, ChatError> {
        if chat.messages.len() <= MOST
            && !text.contains(|c: char| (OPEN..=0xFFFFD).contains(&(c as u32)) || c == CLOSE)
        {
            let marked = Chat { messages: marked(&chat.messages), tools: chat.tools.clone() };
            // A template may refuse what is marked; that is no reason to refuse the chat.
            if let Ok(rendered) = self.text(&marked, ending) {
                let (plain, turns) = unmarked(&rendered, chat);
                if let Some(turns) = turns.filter(|_| plain == text) {
                    return Ok(turns);
                }
            }
        }
        searched(chat, text)
    }
}

fn marked(messages: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
    let mark = |turn: usize, text: &str| {
        let open = char::from_u32(OPEN + turn as u32).unwrap_or(CLOSE);
        let core = text.trim();
        let (before, after) = text.split_once(core).unwrap_or_default();
        Value::from(format!("{before}{open}{core}{CLOSE}{after}"))
    };
    let one = |(turn, message): (usize, &Map<String, Value>)| {
        let mut message = message.clone();
        match message.get_mut("content") {
            Some(Value::String(text)) if !text.trim().is_empty() => {
                let text = mark(turn, text);
                message.insert("content".into(), text);
            }
            Some(Value::Array(parts)) => {
                for part in parts.iter_mut().filter_map(|part| part.get_mut("text")) {
                    *part = part.as_str().map_or(part.clone(), |text| mark(turn, text));
                }
            }
            _ => {}
        }
        message
    };
    messages.iter().enumerate().map(one).collect()
}

/// The text without marks, and what was between them; of several parts of a message, from the first to the last. None
/// where a mark has lost its other half: the template took the content apart.
fn unmarked(rendered: &str, chat: &Chat) -> (String, Option<Vec<Turn>>) {
    let mut text = String::with_capacity(rendered.len());
    let mut turns: Vec<Turn> = Vec::new();
    let (mut open, mut whole) = (None, true);
    for c in rendered.chars() {
        let turn =
            (c as u32).checked_sub(OPEN).map(|turn| turn as usize).filter(|turn| *turn < chat.messages.len());
        match (c, turn) {
            (CLOSE, _) => {
                whole &= open.is_some();
                close(&mut turns, open.take(), text.len(), chat);
            }
            (_, Some(turn)) => whole &= open.replace((turn, text.len())).is_none(),
            _ => text.push(c),
        }
    }
    // A last message that goes on ends with the text.
    close(&mut turns, open, text.len(), chat);
    (text, whole.then_some(turns))
}

fn close(turns: &mut Vec<Turn>, open: Option<(usize, usize)>, end: usize, chat: &Chat) {
    let Some((turn, start)) = open.filter(|(_, start)| *start < end) else { return };
    match turns.last_mut().filter(|last| last.turn == turn) {
        Some(last) => last.end = end,
        None => turns.push(Turn { turn, role: chat.role(turn).to_owned(), start, end }),
    }
}

/// Contents in the order of their messages, each behind the last one: whole, or what is behind a thought.
fn searched(chat: &Chat, text: &str) -> Result<Vec<Turn>, ChatError> {
    let (mut turns, mut at) = (Vec::new(), 0);
    for (turn, message) in chat.messages.iter().enumerate() {
        let content = match message.get("content") {
            Some(Value::String(content)) => content.as_str(),
            Some(Value::Array(parts)) => {
                parts.iter().find_map(|part| part.get("text")?.as_str()).unwrap_or_default()
            }
            _ => "",
        };
        let after = content.rsplit_once("</think>").map_or("", |(_, after)| after);
        let tried = [content, after].into_iter().map(str::trim).filter(|part| !part.is_empty());
        // The first that comes, of two at one place the longer.
        let places = tried.clone().filter_map(|part| Some((at + text[at..].find(part)?, part.len())));
        let place = places.min_by_key(|(start, len)| (*start, usize::MAX - len));
        let role = chat.role(turn).to_owned();
        match place {
            Some((start, len)) => {
                at = start + len;
                turns.push(Turn { turn, role, start, end: at });
            }
            None if tried.count() == 0 => {}
            None => return Err(ChatError::LostTurn { turn, role }),
        }
    }
    Ok(turns)
}
