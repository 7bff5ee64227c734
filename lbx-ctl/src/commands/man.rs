//! `man`: the pages of all commands.

use std::path::Path;

use clap::CommandFactory;
use lbx_common::man;

use crate::{args::Args, error::CliError, output};

/// What the page of the program names.
const FILES: [man::File; 1] = [("/run/lbx/agent.sock", "socket of the agent")];

/// Prints the page of the program, or writes all into a folder.
pub fn run(directory: Option<&Path>) -> Result<(), CliError> {
    let command = Args::command();
    if let Some(directory) = directory {
        let failed = |error| CliError::Usage(format!("cannot write to {}: {error}", directory.display()));
        let pages = man::write(command, &FILES, directory).map_err(failed)?;
        return output::print(&format!("{} pages written to {}\n", pages.len(), directory.display()));
    }
    let failed = |error| CliError::Local(format!("cannot make the page: {error}"));
    let pages = man::pages(command, &FILES).map_err(failed)?;
    output::print(&pages.first().map(|(_, page)| String::from_utf8_lossy(page)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_nothing_is_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let pages = man::write(Args::command(), &FILES, folder.path()).unwrap();
        let names: Vec<_> = pages.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        let mut command = Args::command();
        command.build();
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            assert!(names.contains(&format!("lbx-ctl-{}.1", below.get_name()).as_str()), "{names:?}");
        }
        assert!(names.contains(&"lbx-ctl-create-endpoint.1"), "{names:?}");
        assert_told(&command);
    }

    fn assert_told(command: &clap::Command) {
        assert!(
            command.get_about().is_some_and(|about| !about.to_string().is_empty()),
            "{}",
            command.get_name()
        );
        for argument in command.get_arguments() {
            let told = argument.get_help().is_some_and(|help| !help.to_string().is_empty());
            assert!(told, "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().filter(|below| below.get_name() != "help").for_each(assert_told);
    }

    #[test]
    fn a_page_has_all_sections() {
        let pages = man::pages(Args::command(), &FILES).unwrap();
        let page = |name: &str| {
            let (_, page) = pages.iter().find(|(file, _)| file == name).unwrap();
            String::from_utf8(page.clone()).unwrap()
        };
        let main = page("lbx-ctl.1");
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
            "FILES",
        ] {
            assert!(main.contains(&format!(".SH {section}\n")), "{section}: {main}");
        }
        assert!(main.contains("LBX_SOCKET") && main.contains("agent.sock"), "{main}");
        let top = page("lbx-ctl-top.1");
        assert!(top.contains(".SH KEYS") && top.contains(".SH \"SEE ALSO\""), "{top}");
    }
}
