//! What each file of the repository must and must not hold.
//!
//! Sees one file at a time, as bytes; never reads the disk.

use std::path::Path;

use super::Finding;

/// Longer than this, a file owns two things.
const MAX_LINES: usize = 400;

/// Files that may be longer, each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Folders in which recorded bytes are test input.
const BINARY_FOLDERS: [&str; 2] = ["tests/fixtures/", "lbx-common/fuzz/corpus/"];

/// Endings of files that a compiler or linker makes.
const GENERATED: [&str; 6] = ["o", "a", "so", "rlib", "rmeta", "bc"];

/// The one file of the tests that waits step by step: for what sends no event, with a deadline.
const POLLS: &str = "tests/src/wait.rs";

/// Where a word is forbidden, and why. The words are split here because this file is checked as well.
struct Word {
    /// Found only where no letter, digit or underscore goes on before or after it.
    text: &'static str,
    applies_to: fn(&str) -> bool,
    what: &'static str,
    remedy: &'static str,
}

const WORDS: [Word; 9] = [
    Word { text: concat!("TO", "DO"), applies_to: any, what: UNFINISHED, remedy: FINISH },
    Word { text: concat!("FIX", "ME"), applies_to: any, what: UNFINISHED, remedy: FINISH },
    Word { text: concat!("to", "do!"), applies_to: rust, what: UNFINISHED, remedy: FINISH },
    Word { text: concat!("unimple", "mented!"), applies_to: rust, what: UNFINISHED, remedy: FINISH },
    Word { text: concat!("thread::", "sleep"), applies_to: test, what: SLEEPS, remedy: WAIT },
    Word { text: concat!("time::", "sleep"), applies_to: test, what: SLEEPS, remedy: WAIT },
    Word { text: concat!("/wo", "rk/"), applies_to: any, what: MACHINE, remedy: RELATIVE },
    Word { text: concat!("/ro", "ot/"), applies_to: any, what: MACHINE, remedy: RELATIVE },
    Word {
        text: concat!("``", "`ignore"),
        applies_to: rust,
        what: "an example that is never compiled",
        remedy: "make it compile, or mark it as `text`",
    },
];

const UNFINISHED: &str = "unfinished work";
const FINISH: &str = "finish it, or file an issue and leave no trace here";
const SLEEPS: &str = "a test that sleeps is slow when the machine is fast and wrong when it is slow";
const WAIT: &str = "wait for the event, or with tests/src/wait.rs for what sends none";
const MACHINE: &str = "a path of somebody's machine";
const RELATIVE: &str = "name it from the root of the repository";

fn any(_: &str) -> bool {
    true
}

fn rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|ending| ending == "rs")
}

fn test(file: &str) -> bool {
    rust(file) && file.starts_with("tests/") && file != POLLS
}

/// All broken rules of one file.
pub fn check(file: &str, bytes: &[u8]) -> Vec<Finding> {
    let finding = |line: usize, what: String, remedy: &str| Finding {
        file: file.to_owned(),
        line,
        what,
        remedy: remedy.to_owned(),
    };
    if Path::new(file)
        .extension()
        .is_some_and(|ending| GENERATED.iter().any(|generated| ending == *generated))
    {
        return vec![finding(1, "a generated file".to_owned(), "take it out of git; the build makes it")];
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        _ if BINARY_FOLDERS.iter().any(|folder| file.starts_with(folder)) => return Vec::new(),
        _ => return vec![finding(1, "a binary file".to_owned(), "keep the source it comes from instead")],
    };

    let mut findings = Vec::new();
    if rust(file) {
        if !text.starts_with("//!") {
            let remedy = "open it with `//!`: what the file owns and what it must never do";
            findings.push(finding(1, "the file does not say what it is for".to_owned(), remedy));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES && !LONG_FILES.iter().any(|(long, _)| *long == file) {
            let what = format!("{lines} lines, more than {MAX_LINES}");
            findings.push(finding(
                lines,
                what,
                "split it by what it owns, or move its tests to a file of their own",
            ));
        }
    }
    for (index, line) in text.lines().enumerate() {
        for word in WORDS.iter().filter(|word| (word.applies_to)(file) && has_word(line, word.text)) {
            findings.push(finding(index + 1, format!("`{}`: {}", word.text, word.what), word.remedy));
        }
    }
    findings
}

/// Exceptions for files that are not there any more.
pub fn stale_exceptions(files: &[String]) -> Vec<Finding> {
    LONG_FILES
        .iter()
        .filter(|(long, _)| !files.iter().any(|file| file == long))
        .map(|(long, _)| Finding {
            file: file!().to_owned(),
            line: 1,
            what: format!("an exception for {long}, which does not exist"),
            remedy: "take it out of the list".to_owned(),
        })
        .collect()
}

/// Whether `word` stands in `line` and is no part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let in_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    // A word that itself ends in a sign, such as a macro's, may be followed by anything.
    let open_end = !word.ends_with(in_word);
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(in_word) && (open_end || !after.is_some_and(in_word))
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINES, check, has_word};

    /// The places and reasons of all findings.
    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text.as_bytes()).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_well_kept_file_has_no_findings() {
        assert!(lines("lbx-common/src/parse.rs", "//! Parses.\n\nfn parse() {}\n").is_empty());
    }

    #[test]
    fn a_rust_file_opens_with_its_purpose() {
        assert_eq!(lines("a/src/lib.rs", "use std::fs;\n//! Late.\n"), [1]);
        assert!(lines("README.md", "# lbx\n").is_empty());
    }

    #[test]
    fn a_file_of_the_greatest_length_passes_and_one_line_more_does_not() {
        let mut text = "//! Long.\n".repeat(MAX_LINES);
        assert!(lines("a/src/lib.rs", &text).is_empty());
        text.push_str("//! More.\n");
        assert_eq!(lines("a/src/lib.rs", &text), [MAX_LINES + 1]);
    }

    #[test]
    fn unfinished_work_is_named_with_its_line() {
        let text =
            concat!("//! A.\n\n// TO", "DO: more\nfn f() { to", "do!() }\nfn g() { unimple", "mented!() }\n");
        assert_eq!(lines("a/src/lib.rs", text), [3, 4, 5]);
        assert_eq!(lines("notes.md", concat!("FIX", "ME\n")), [1]);
    }

    #[test]
    fn sleeping_is_found_in_tests_only() {
        let text = concat!("//! A.\nfn f() { std::thread::", "sleep(D); tokio::time::", "sleep(D); }\n");
        assert_eq!(lines("tests/tests/e2e.rs", text), [2, 2]);
        assert!(lines("lbx-agent/src/health/mod.rs", text).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_everywhere() {
        assert_eq!(lines("docs/a.md", concat!("see /wo", "rk/x and\n(/ro", "ot/.cargo)\n")), [1, 2]);
        assert!(lines("docs/a.md", concat!("net/frame", "wo", "rk/x\n")).is_empty());
    }

    #[test]
    fn generated_and_binary_files_are_found_and_fixtures_are_not() {
        assert_eq!(lines("lbx-agent/lbx.o", "text"), [1]);
        assert_eq!(lines("a.png", "x\0y"), [1]);
        assert!(lines("tests/fixtures/a.pcap", "x\0y").is_empty());
    }

    #[test]
    fn a_word_inside_a_longer_one_is_not_found() {
        assert!(has_word("a stop, b", "stop"));
        assert!(!has_word("nonstop stops stop_it", "stop"));
        assert!(has_word("run!(x)", "run!"));
        assert!(!has_word("rerun!(x)", "run!"));
    }
}
