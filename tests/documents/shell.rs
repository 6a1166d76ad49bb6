//! One shell for all blocks of a page that are run at the same place: what one block sets, the next one finds.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::blocks::Block;

/// Begins every script. What does not end by itself is started with
/// a process group of its own, which the end of the script ends.
const PRELUDE: &str = r#"
set -eu
logs=$(mktemp -d)
running=
finish() {
    status=$?
    for job in $running; do kill -s TERM -- "-$job" 2>/dev/null || true; done
    wait
    if [ "$status" != 0 ]; then
        for log in "$logs"/*; do [ ! -e "$log" ] || { echo "== $log"; cat "$log"; }; done
    fi
    rm -rf "$logs"
    exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
# until LOG PID TEXT: waits until the job has printed the text
until_printed() {
    tries=0
    until grep -q -F -e "$3" "$logs/$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { echo "it does not print: $3"; exit 1; }
        kill -0 "$2" 2>/dev/null || { echo "it has ended, and did not print: $3"; exit 1; }
        sleep 0.1
    done
}
"#;

/// The script that runs these blocks one after the other.
pub fn script(blocks: &[Block]) -> String {
    let mut script = PRELUDE.to_owned();
    for (number, block) in blocks.iter().enumerate() {
        writeln!(script, "echo '== {}'", block.at()).unwrap();
        match block.until() {
            None => script.push_str(&block.text),
            Some(text) => write!(
                script,
                "setsid sh -eu >\"$logs/{number}\" 2>&1 <<'END OF THE BLOCK' &\n{}END OF THE BLOCK\n\
                 running=\"$! $running\"\nuntil_printed {number} $! '{text}'\n",
                block.text
            )
            .unwrap(),
        }
    }
    script.push_str("echo '== end'\n");
    script
}

/// Runs a script in `directory`, for at most `seconds`, with nothing in the environment but what is named.
pub fn run(script: &Path, directory: &Path, environment: &[(&str, &str)], seconds: u32) -> Output {
    let mut command = Command::new("timeout");
    command.args(["-k", "10", &seconds.to_string(), "sh"]).arg(script).current_dir(directory);
    command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    // Into one pipe, so that errors stand where they happened.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(command);
    let mut stdout = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut stdout).unwrap();
    Output { status: child.wait().unwrap(), stdout, stderr: Vec::new() }
}
