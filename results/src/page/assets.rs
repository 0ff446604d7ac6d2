//! The page's own files, and how they become one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::encode::html;

const TEMPLATE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");

/// The scripts in the order they build on each other; together they are one module.
const SCRIPTS: [&str; 25] = [
    include_str!("assets/data.js"),
    include_str!("assets/dom.js"),
    include_str!("assets/state.js"),
    include_str!("assets/colour.js"),
    include_str!("assets/export.js"),
    include_str!("assets/axes.js"),
    include_str!("assets/lines.js"),
    include_str!("assets/crosshair.js"),
    include_str!("assets/scatter.js"),
    include_str!("assets/matrix.js"),
    include_str!("assets/bars.js"),
    include_str!("assets/figure.js"),
    include_str!("assets/about.js"),
    include_str!("assets/lens_figures.js"),
    include_str!("assets/transfer_figures.js"),
    include_str!("assets/probe_figures.js"),
    include_str!("assets/law_figure.js"),
    include_str!("assets/laid_figures.js"),
    include_str!("assets/trace.js"),
    include_str!("assets/card.js"),
    include_str!("assets/grid.js"),
    include_str!("assets/look.js"),
    include_str!("assets/prompts.js"),
    include_str!("assets/pins.js"),
    include_str!("assets/main.js"),
];

/// The whole page. `data` is JSON that is safe inside a script ([`super::encode::json`]).
pub(super) fn assemble(title: &str, data: &str) -> String {
    let script = SCRIPTS.concat();
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src blob: data:; base-uri 'none'; form-action 'none'",
        source(&script),
        source(STYLE)
    );
    let mut page = String::with_capacity(TEMPLATE.len() + STYLE.len() + script.len() + data.len() + 1024);
    let mut rest = TEMPLATE;
    // One pass over the template: what is filled in is never searched again.
    for (slot, text) in [
        ("{{policy}}", &*policy),
        ("{{title}}", &html(title)),
        ("{{style}}", STYLE),
        ("{{data}}", data),
        ("{{script}}", &script),
    ] {
        let (before, after) = rest.split_once(slot).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page + rest
}

/// A content security policy source that allows exactly `text`.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_filled_in_order() {
        let page = assemble("<i>{{data}}</i>", "{\"a\":\"{{script}}\"}");
        assert!(page.contains("<title>&lt;i&gt;{{data}}&lt;/i&gt;</title>"));
        assert!(page.contains(">{\"a\":\"{{script}}\"}</script>"));
        assert!(!page.contains("{{policy}}") && !page.contains("{{style}}"));
        assert!(page.trim_end().ends_with("</html>"));
    }

    #[test]
    fn own_files_cannot_end_their_element() {
        assert!(SCRIPTS.iter().all(|script| !script.contains("</script") && !script.contains("<!--")));
        assert!(!STYLE.contains("</style"));
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "http://",
            "https://",
        ];
        for word in forbidden {
            let names = SCRIPTS.iter().any(|s| s.replace("http://www.w3.org/2000/svg", "").contains(word));
            assert!(!names, "{word}");
        }
    }
}
