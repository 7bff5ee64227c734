//! What each program costs the verifier and the stack, against `tests/budget.toml`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeMap, fs, path::Path};

use aya_obj::Object;
use lbx_tests::{config, lab::Lab};
use serde::Deserialize;

/// What a program may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    /// Instructions that the verifier looked at (`verified_insns`).
    verified_instructions: u32,
    /// Bytes of the program after the verifier (`xlated_prog_len`).
    translated_bytes: u32,
    /// Its own stack frame. What the functions that it calls take on top is the verifier's to add up: 512 at most.
    stack_bytes: u32,
}

/// A budget that is more than this much above what is needed says nothing.
const SLACK: f64 = 1.3;

#[test]
fn every_program_stays_within_its_budget() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml");
    let budget: BTreeMap<String, Cost> = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let measured = measured();
    for (name, cost) in &measured {
        println!("{name}: {cost:?}");
    }
    let names = |costs: &BTreeMap<String, Cost>| costs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&budget), names(&measured), "each program has a budget, and nothing else has");
    let mut wrong = Vec::new();
    for ((name, cost), budget) in measured.iter().zip(budget.values()) {
        for (what, is, may) in [
            ("verified_instructions", cost.verified_instructions, budget.verified_instructions),
            ("translated_bytes", cost.translated_bytes, budget.translated_bytes),
            ("stack_bytes", cost.stack_bytes, budget.stack_bytes),
        ] {
            if is > may {
                wrong.push(format!("{name}: {what} is {is}, the budget {may}"));
            } else if f64::from(may) > f64::from(is) * SLACK + 16.0 {
                wrong.push(format!("{name}: {what} is {is} only, lower the budget of {may}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn measured() -> BTreeMap<String, Cost> {
    let object = Object::parse(lbx_agent::dataplane::OBJECT).unwrap();
    let frames = frames(&object);
    let programs = Lab::new(&config::whole()).unwrap().programs().unwrap();
    let cost = |(name, info): (String, aya::programs::ProgramInfo)| {
        let cost = Cost {
            verified_instructions: info.verified_instruction_count().unwrap(),
            translated_bytes: info.size_translated().unwrap(),
            stack_bytes: frames.get(&name).copied().unwrap(),
        };
        (name, cost)
    };
    programs.into_iter().map(cost).collect()
}

/// Bytes of the stack frame of each function: how far below the frame pointer it reads, writes or points.
fn frames(object: &Object) -> BTreeMap<String, u32> {
    /// Instruction classes and operations (`linux/bpf.h`).
    const LDX: u8 = 0x01;
    const ST: u8 = 0x02;
    const STX: u8 = 0x03;
    const ADD_CONSTANT: u8 = 0x07;
    const MOVE: u8 = 0xbf;
    const FRAME_POINTER: u8 = 10;

    let frame = |instructions: &[aya_obj::generated::bpf_insn]| {
        let mut deepest = 0;
        let mut copies = [false; 11];
        for instruction in instructions {
            let (to, from) = (instruction.dst_reg(), instruction.src_reg());
            let depth = match instruction.code & 0x07 {
                LDX if from == FRAME_POINTER => i32::from(instruction.off),
                ST | STX if to == FRAME_POINTER => i32::from(instruction.off),
                _ if instruction.code == ADD_CONSTANT && copies.get(usize::from(to)) == Some(&true) => {
                    instruction.imm
                }
                _ => 0,
            };
            if let Some(copy) = copies.get_mut(usize::from(to)) {
                *copy = instruction.code == MOVE && from == FRAME_POINTER;
            }
            deepest = deepest.min(depth);
        }
        deepest.unsigned_abs()
    };
    object.functions.values().map(|function| (function.name.clone(), frame(&function.instructions))).collect()
}
