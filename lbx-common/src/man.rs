//! Man pages of the programs, from what their command lines say of themselves. Knows no command.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, Command};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

/// A file that a page names, and what it is.
pub type File = (&'static str, &'static str);

/// The page of a command, and those of all below it, each with its file's name.
pub fn pages(command: Command, files: &[File]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, None, files, &mut pages)?;
    Ok(pages)
}

/// Writes all pages into a folder, which is made where it is missing.
pub fn write(command: Command, files: &[File], folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let write = |(name, page): (String, Vec<u8>)| {
        let path = folder.join(name);
        fs::write(&path, page).map(|()| path)
    };
    pages(command, files)?.into_iter().map(write).collect()
}

fn add(
    command: &Command,
    above: Option<&str>,
    files: &[File],
    pages: &mut Vec<(String, Vec<u8>)>,
) -> io::Result<()> {
    // As `lbx-ctl-endpoint`, which is how man(1) is asked for it.
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(command, above, files)?));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, Some(&name), files, pages)?;
    }
    Ok(())
}

fn page(command: &Command, above: Option<&str>, files: &[File]) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    for (title, text) in sections(command) {
        roff.control("SH", [title.as_str()]).control("nf", []);
        for line in text {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    let environment: BTreeMap<String, String> = command.get_arguments().filter_map(variable).collect();
    list(&mut roff, "ENVIRONMENT", environment.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    if above.is_none() {
        list(&mut roff, "FILES", files.iter().copied());
    }
    if let Some(above) = above {
        roff.control("SH", ["SEE ALSO"]).text([bold(above), roman("(1)")]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// What stands behind the options of a command: parts with a title that ends in a colon.
fn sections(command: &Command) -> Vec<(String, Vec<String>)> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            let title = match title {
                "Example" | "Examples" => "EXAMPLES".to_owned(),
                "Exit codes" => "EXIT STATUS".to_owned(),
                other => other.to_uppercase(),
            };
            sections.push((title, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut()
            && !line.is_empty()
        {
            lines.push(line.strip_prefix("  ").unwrap_or(line).to_owned());
        }
    }
    sections
}

fn variable(argument: &Arg) -> Option<(String, String)> {
    let name = argument.get_env()?.to_str()?.to_owned();
    Some((name, format!("the same as --{}", argument.get_long()?)))
}

fn list<'a>(roff: &mut Roff, title: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut entries = entries.peekable();
    if entries.peek().is_some() {
        roff.control("SH", [title]);
    }
    for (name, text) in entries {
        let name: Inline = bold(name);
        roff.control("TP", []).text([name]).text([roman(text)]);
    }
}
