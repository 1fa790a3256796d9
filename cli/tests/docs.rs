//! The committed documentation says what the code does.

use std::path::Path;
use std::process::Command;

fn terrace(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_terrace")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_configuration_table_is_the_generated_one() {
    assert!(
        document("configuration.md") == terrace(&["variables", "--markdown"]),
        "docs/configuration.md is stale: cargo run -p terrace-cli -- variables --markdown > docs/configuration.md"
    );
}

#[test]
fn the_reference_names_every_subcommand_and_option() {
    let reference = document("cli.md");
    let help = terrace(&["--help"]);
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut checked = 0;
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(reference.contains(&format!("terrace {command}")), "docs/cli.md lacks `terrace {command}`");
        let help = terrace(&[command, "--help"]);
        for option in help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(
                option == "--help" || reference.contains(option),
                "docs/cli.md lacks {option} of {command}"
            );
            checked += 1;
        }
    }
    assert!(checked > 7, "the help was not understood: {help}");
}
