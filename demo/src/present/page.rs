//! The picture as a page of its own: no other file, no network.
//!
//! Zone: control (a program of its own).

use super::run::Run;
use super::svg::escape;

/// Wraps a drawing into an HTML page that explains itself.
pub fn html(run: &Run, svg: &str) -> String {
    let verdict = if run.is_good() { "every check is good" } else { "not every check is good" };
    let kernel = escape(&run.kernel);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>Terrace: redis-server on two tiers of memory</title>\n\
         <style>body{{margin:0;background:#e2e8f0}}main{{max-width:1600px;margin:24px auto;background:#ffffff;\
         box-shadow:0 2px 16px #94a3b8}}svg{{display:block;width:100%;height:auto}}</style>\n</head>\n<body>\n\
         <!-- Linux {kernel}; {verdict}. The numbers behind the picture are in run.jsonl beside this file. -->\n\
         <main>\n{svg}</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_else() {
        let page = html(&Run::default(), "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>");
        assert_eq!(page.matches("http").count(), 1, "the only address is the name of the SVG namespace");
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
