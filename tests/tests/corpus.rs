//! The saved inputs of the fuzz targets, run without a fuzzer.

use lbx_tests::fuzz::Target;

#[test]
fn nothing_is_wrong_with_any_saved_input() -> std::io::Result<()> {
    for target in Target::ALL {
        let corpus = target.corpus()?;
        assert!(corpus.len() > 10, "{target:?} has a corpus of {}", corpus.len());
        for input in corpus {
            target.run(&input);
        }
    }
    Ok(())
}
