//! Which crate may depend on which, from `cargo metadata`.
//!
//! The kernel's code must not see the agent, the CLI must not see the kernel, and this crate must see neither. The
//! table below is the rule; a new edge is allowed by adding it there, with the reason in the commit.

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand, Package};

use super::Finding;
use crate::workspace::Workspace;

/// What one crate of the workspace may depend on.
struct Rule {
    package: &'static str,
    /// Crates of the workspace, each with the features that may be asked for.
    workspace: &'static [(&'static str, &'static [&'static str])],
    /// Crates from elsewhere that are compiled in whatever the features.
    others: Others,
}

enum Others {
    /// These and no more.
    Only(&'static [&'static str]),
    /// All but those whose name is or begins with one of these and a dash.
    AllBut(&'static [&'static str]),
}

const RULES: [Rule; 7] = [
    // Compiled for the kernel: each dependency must be no_std and free of panics.
    Rule { package: "lbx-common", workspace: &[], others: Others::Only(&["network-types"]) },
    Rule {
        package: "lbx-ebpf",
        workspace: &[("lbx-common", &[])],
        others: Others::Only(&["aya-ebpf", "network-types"]),
    },
    Rule {
        package: "lbx-agent",
        workspace: &[("lbx-common", &["api", "aya", "man"])],
        others: Others::AllBut(&["aya-ebpf"]),
    },
    // The CLI speaks to the agent's API and never to the kernel.
    Rule {
        package: "lbx-ctl",
        workspace: &[("lbx-common", &["api", "man"])],
        others: Others::AllBut(&["aya"]),
    },
    Rule {
        package: "lbx-tests",
        workspace: &[("lbx-agent", &[]), ("lbx-common", &["api", "aya"])],
        others: Others::AllBut(&["aya-ebpf"]),
    },
    Rule { package: "lbx-fuzz", workspace: &[("lbx-tests", &[])], others: Others::Only(&["libfuzzer-sys"]) },
    // Builds first on a fresh machine, before anything else can be built.
    Rule { package: "xtask", workspace: &[], others: Others::AllBut(&["aya"]) },
];

/// Checks the manifests of all crates.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .manifest_path(workspace.root.join("Cargo.toml"))
        .exec()
        .context("cargo metadata could not read the workspace")?;
    let members: Vec<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = Manifest::read(workspace, package)?;
        let Some(rule) = RULES.iter().find(|rule| rule.package == package.name.as_str()) else {
            findings.push(manifest.finding(
                &package.name,
                format!("the crate {} has no rule", package.name),
                "say in xtask/src/tidy/edges.rs what it may depend on",
            ));
            continue;
        };
        let by_default = package.features.get("default").is_some_and(|features| !features.is_empty());
        if by_default && package.name.as_str() == "lbx-common" {
            findings.push(manifest.finding(
                "default",
                "lbx-common has features on by default".to_owned(),
                "leave `default` out: the kernel's build takes it without features",
            ));
        }
        for dependency in &package.dependencies {
            if let Err((what, remedy)) = rule.check(dependency, &members) {
                findings.push(manifest.finding(&dependency.name, what, remedy));
            }
        }
    }
    Ok(findings)
}

impl Rule {
    fn check(&self, dependency: &Dependency, members: &[&str]) -> Result<(), (String, &'static str)> {
        let name = dependency.name.as_str();
        if members.contains(&name) {
            return self.check_member(name, &dependency.features);
        }
        if dependency.kind == DependencyKind::Development {
            return Ok(());
        }
        let allowed = match self.others {
            // An optional one is behind a feature, which the kernel's build does not ask for.
            Others::Only(names) => names.contains(&name) || dependency.optional,
            Others::AllBut(names) => !names.iter().any(|banned| is_or_extends(name, banned)),
        };
        if allowed {
            Ok(())
        } else {
            Err((
                format!("{} must not depend on {name}", self.package),
                "take it out, or do the work in a crate that may",
            ))
        }
    }

    fn check_member(&self, name: &str, features: &[String]) -> Result<(), (String, &'static str)> {
        let Some((_, allowed)) = self.workspace.iter().find(|(member, _)| *member == name) else {
            return Err((
                format!("{} must not depend on {name}", self.package),
                "what both need belongs in lbx-common",
            ));
        };
        match features.iter().find(|feature| !allowed.contains(&feature.as_str())) {
            None => Ok(()),
            Some(feature) => Err((
                format!("{} must not use the feature {feature} of {name}", self.package),
                "take the feature out",
            )),
        }
    }
}

/// `aya-obj` extends `aya`; `ayat` does not.
fn is_or_extends(name: &str, banned: &str) -> bool {
    name.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The text of a crate's `Cargo.toml`, to name lines in it.
struct Manifest {
    file: String,
    text: String,
}

impl Manifest {
    fn read(workspace: &Workspace, package: &Package) -> Result<Self> {
        let path = package.manifest_path.as_std_path();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string();
        Ok(Self { file, text })
    }

    fn finding(&self, key: &str, what: String, remedy: &str) -> Finding {
        Finding {
            file: self.file.clone(),
            line: line_of_key(&self.text, key),
            what,
            remedy: remedy.to_owned(),
        }
    }
}

/// The first line that sets `key`, whichever of TOML's ways it uses, or the first line of the file.
fn line_of_key(text: &str, key: &str) -> usize {
    text.lines()
        .position(|line| {
            line.trim_start()
                .trim_start_matches('"')
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with([' ', '=', '.', '"']))
        })
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use cargo_metadata::Dependency;

    use super::{RULES, Rule, line_of_key};

    const MEMBERS: [&str; 7] =
        ["lbx-common", "lbx-fuzz", "lbx-ebpf", "lbx-agent", "lbx-ctl", "lbx-tests", "xtask"];

    fn rule(package: &str) -> &'static Rule {
        RULES.iter().find(|rule| rule.package == package).unwrap()
    }

    /// As cargo describes it.
    fn dependency(name: &str, kind: &str, optional: bool, features: &[&str]) -> Dependency {
        let features: Vec<String> = features.iter().map(|feature| format!("{feature:?}")).collect();
        let json = format!(
            r#"{{"name": "{name}", "source": null, "req": "*", "kind": {kind}, "rename": null, "target": null,
                "optional": {optional}, "uses_default_features": true, "features": [{}], "registry": null}}"#,
            features.join(",")
        );
        cargo_metadata::MetadataCommand::parse(metadata_with(&json))
            .unwrap()
            .packages
            .remove(0)
            .dependencies
            .remove(0)
    }

    fn metadata_with(dependency: &str) -> String {
        format!(
            r#"{{"packages": [{{"name": "p", "version": "0.1.0", "id": "p", "source": null, "dependencies":
            [{dependency}], "targets": [], "features": {{}}, "manifest_path": "/p/Cargo.toml", "edition": "2024"}}],
            "workspace_members": ["p"], "resolve": null, "target_directory": "/t", "version": 1,
            "workspace_root": "/p"}}"#
        )
    }

    fn allowed(package: &str, dependency: &Dependency) -> bool {
        rule(package).check(dependency, &MEMBERS).is_ok()
    }

    #[test]
    fn each_crate_has_one_rule() {
        for member in MEMBERS {
            assert_eq!(RULES.iter().filter(|rule| rule.package == member).count(), 1, "{member}");
        }
    }

    #[test]
    fn nothing_depends_on_the_kernel_crate() {
        for member in MEMBERS {
            assert!(!allowed(member, &dependency("lbx-ebpf", "null", false, &[])), "{member}");
        }
    }

    #[test]
    fn the_cli_sees_the_api_types_but_neither_kernel_nor_agent() {
        assert!(allowed("lbx-ctl", &dependency("lbx-common", "null", false, &["api"])));
        assert!(!allowed("lbx-ctl", &dependency("lbx-common", "null", false, &["api", "aya"])));
        assert!(!allowed("lbx-ctl", &dependency("aya", "null", false, &[])));
        assert!(!allowed("lbx-ctl", &dependency("aya-obj", "null", false, &[])));
        assert!(!allowed("lbx-ctl", &dependency("lbx-agent", "null", false, &[])));
        assert!(!allowed("lbx-ctl", &dependency("lbx-agent", "\"dev\"", false, &[])));
    }

    #[test]
    fn the_common_crate_has_one_dependency_without_features() {
        assert!(allowed("lbx-common", &dependency("network-types", "null", false, &[])));
        assert!(allowed("lbx-common", &dependency("serde", "null", true, &[])));
        assert!(allowed("lbx-common", &dependency("proptest", "\"dev\"", false, &[])));
        assert!(!allowed("lbx-common", &dependency("serde", "null", false, &[])));
    }

    #[test]
    fn xtask_depends_on_no_crate_of_the_workspace() {
        for member in MEMBERS {
            assert!(!allowed("xtask", &dependency(member, "null", false, &[])), "{member}");
        }
        assert!(allowed("xtask", &dependency("clap", "null", false, &[])));
    }

    #[test]
    fn a_finding_names_the_line_of_the_dependency() {
        let text = "[package]\nname = \"x\"\n\n[dependencies]\naya-obj = \"1\"\naya.workspace = true\n";
        assert_eq!(line_of_key(text, "aya"), 6);
        assert_eq!(line_of_key(text, "aya-obj"), 5);
        assert_eq!(line_of_key(text, "absent"), 1);
    }
}
