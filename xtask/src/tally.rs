//! Counts the results of all test binaries from what `cargo test` prints.
//!
//! Only reads text; passing it on to the user is the caller's.

use std::fmt;
use std::str::Split;

/// How many tests had which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that held.
    pub passed: u64,
    /// Tests that did not.
    pub failed: u64,
    /// Tests that were not run, or could not run on this machine.
    pub skipped: u64,
}

impl Tally {
    /// Takes in one line of output; all but the result lines of test binaries count nothing.
    pub fn add_line(&mut self, line: &str) {
        if let Some(result) = parse(line) {
            self.passed += result.passed;
            self.failed += result.failed;
            self.skipped += result.skipped;
        }
    }

    /// Moves tests that said they could not run, and were counted as passed by the test binary.
    pub fn skip_passed(&mut self, count: u64) {
        let moved = count.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s`.
fn parse(line: &str) -> Option<Tally> {
    // A test that writes to the terminal past the harness can leave text before it on the line.
    let (_, result) = line.split_once("test result: ")?;
    let (_, counts) = result.split_once(". ")?;
    let mut parts = counts.split("; ");
    Some(Tally {
        passed: count(&mut parts, "passed")?,
        failed: count(&mut parts, "failed")?,
        skipped: count(&mut parts, "ignored")?,
    })
}

fn count(parts: &mut Split<'_, &str>, what: &str) -> Option<u64> {
    let (number, word) = parts.next()?.split_once(' ')?;
    if word == what { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    const OK: &str =
        "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 2 filtered out; finished in 0.31s";
    const FAILED: &str =
        "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let mut tally = Tally::default();
        for line in ["running 12 tests", "test a ... ok", OK, "", FAILED] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally { passed: 16, failed: 2, skipped: 3 });
    }

    #[test]
    fn a_result_counts_after_stray_output_on_its_line() {
        let mut tally = Tally::default();
        tally.add_line(&format!("stray {OK}"));
        assert_eq!(tally.passed, 12);
    }

    #[test]
    fn text_that_only_looks_like_a_result_counts_nothing() {
        let mut tally = Tally::default();
        for line in
            ["test result: ok", "test result: ok. many passed; 0 failed; 0 ignored", "3 passed; 1 failed"]
        {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn tests_that_could_not_run_are_skipped_and_not_passed() {
        let mut tally = Tally { passed: 5, failed: 1, skipped: 0 };
        tally.skip_passed(2);
        assert_eq!(tally, Tally { passed: 3, failed: 1, skipped: 2 });
    }

    #[test]
    fn the_summary_has_the_form_that_ci_reads() {
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 1 }.to_string(), "3 passed, 0 failed, 1 skipped");
    }
}
