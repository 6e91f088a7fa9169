"""Cycles that an inference would take on a Cortex-M core, estimated from the instructions that the emulator executes.

An emulator counts instructions and knows no time. Here each executed instruction gets the cycles that Arm's technical
reference manuals give it (DDI 0484 and DDI 0432 for M0+ and M0, DDI 0337 for M3, DDI 0439 for M4); what no manual
gives, the M7's two pipelines, is a simple model. Not in the estimate: contention on buses, and caches.

The blocks of instructions come from QEMU's log of executed translation blocks, from the entry of `ml_invoke` to its
return; their instructions from the toolchain's disassembler.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdk.boards import Board
from sdk.deploy import Deployed
from sdk.errors import ToolError, UsageError
from sdk.flash.emulator import EmulatorTransport
from sdk.graph import Array
from sdk.tools import find_tool

PAGE_BYTES = 1024  # of the emulator, for these cores
Edge = tuple[int, int]  # addresses of two blocks executed one after the other


@dataclass(frozen=True)
class Core:
    """Cycles of instructions with memory that answers at once.

    `load`, `load_again`: one load; one right after another access. A multiple transfer takes `multiple` + 1 for each
    register; a taken branch `branch` more than one that is not; a return by popping the program counter as much.
    """

    name: str
    load: int = 2
    load_again: int = 1
    store: int = 1
    load_double: int = 3
    multiple: int = 1
    multiply_long: int = 1
    divide: int = 7
    branch: int = 2
    call: int = 1  # a BL, beside `branch`
    issues_two: bool = False


CORES = {
    core.name: core
    for core in (
        Core("cortex-m0", load_again=2, store=2, branch=2, call=2),
        Core("cortex-m0plus", load_again=2, store=2, branch=1, call=2),
        Core("cortex-m3", multiply_long=4),
        Core("cortex-m4"),
        Core("cortex-m7", load=1, load_double=1, multiple=0, divide=6, branch=1, issues_two=True),
    )
}


@dataclass(frozen=True)
class Instruction:
    """One line of the disassembly."""

    name: str
    operands: str
    next: int  # address of the instruction behind it

    @cached_property
    def registers(self) -> int:
        """How many registers a multiple transfer names."""
        count = 0
        for part in re.findall(r"[^,\s]+", self.operands[self.operands.index("{") + 1 : self.operands.index("}")]):
            ends = [int(number) for number in re.findall(r"\d+", part)] if "-" in part else []
            count += ends[1] - ends[0] + 1 if ends else 1
        return count

    @cached_property
    def is_multiple(self) -> bool:
        return self.name.startswith(("ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop"))

    @cached_property
    def is_memory(self) -> bool:
        return self.is_multiple or self.name.startswith(("ldr", "str", "vldr", "vstr"))

    @cached_property
    def ends_block(self) -> bool:
        """Whether control may go elsewhere behind it."""
        to_pc = self.name.startswith(("pop", "ldm")) and "pc" in self.operands
        jump = re.fullmatch(r"b(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al|hs|lo)?|bl|blx|bx|cbn?z|tb[bh]", self.name)
        return bool(jump) or to_pc or (self.name.startswith(("ldr", "mov")) and self.operands.startswith("pc"))

    @cached_property
    def target(self) -> int | None:
        """Where a direct branch leads."""
        found = re.search(r"(?:^|,\s*)([0-9a-f]+) <", self.operands)
        return int(found[1], 16) if found and self.ends_block else None

    def cycles(self, core: Core, after_memory: bool) -> int:
        """Without what a taken branch adds."""
        name = self.name
        if self.is_multiple:
            return core.multiple + -(-self.registers // (2 if core.issues_two else 1))
        if name.startswith(("ldrd", "strd")):
            return core.load_double - (after_memory and core.load_double > 1)
        if name.startswith(("ldr", "vldr")):
            return core.load_again if after_memory else core.load
        if name.startswith(("str", "vstr")):
            return core.store
        if name.startswith(("sdiv", "udiv")):
            return core.divide
        if name.startswith(("vdiv", "vsqrt")):
            return 14
        if name.startswith(("vmla", "vmls", "vfma", "vfms", "vnml")):
            return 3
        if name.startswith(("smull", "umull", "smlal", "umlal")):
            return core.multiply_long
        if name in ("bl", "blx"):
            return core.call
        return 0 if re.fullmatch("it[te]{0,3}", name) else 1


@dataclass(frozen=True)
class Estimate:
    """Of one inference on `core`. `steps`: cycles by executed step; what lies between them is in the sum alone."""

    core: str
    instructions: int
    cycles: int
    steps: tuple[int, ...]


def check_core(board: Board, core_name: str) -> None:
    """UsageError where `board` is not emulated or no Arm board, or the core has no timings here."""
    if core_name not in CORES:
        raise UsageError(f"there are no timings of {core_name}", f"There are those of {', '.join(CORES)}.")
    if board.emulator is None or not board.compiler.startswith("arm-"):
        raise UsageError(f"{board.id} is no emulated Arm board", "Estimate on one, for example mps2-an386.")


def estimate(target: Deployed, inputs: Sequence[Array], core_name: str, flash_wait: int = 0) -> Estimate:
    """The estimate for one steady inference of `inputs` on an emulated board whose core runs the same instructions.

    `flash_wait`: cycles that flash takes longer where a branch goes or a constant is read next to the code; prefetching
    and caches hide the rest. Errors as of `check_core`.
    """
    transport = target.device.transport
    check_core(target.image.board, core_name)
    assert isinstance(transport, EmulatorTransport)
    code = Code(target.image.elf, target.image.board.compiler.replace("gcc", "objdump"))
    target.device.invoke(inputs)  # the first one fills caches of the firmware, if any
    target.device.write_inputs(inputs)
    with transport.logged_blocks(code.trace) as trace:
        target.device.compute()
    timing = _Timing(code, CORES[core_name], flash_wait)
    sums = [timing.sum(edges) for edges in trace.result()]
    instructions = sum(count for count, _ in sums)
    return Estimate(core_name, instructions, sum(c for _, c in sums), tuple(c for _, c in sums[1:]))


class Code:
    """The disassembled code of an image."""

    def __init__(self, elf: Path, disassembler: str) -> None:
        command = [find_tool(disassembler), "-d", "--no-show-raw-insn", str(elf)]
        listing = subprocess.run(command, capture_output=True, text=True, check=False)
        if listing.returncode:
            raise ToolError(f"{disassembler} cannot read {elf}: {listing.stderr.strip()}")
        self.instructions: dict[int, Instruction] = {}
        self.functions: dict[str, int] = {}
        self._ranges: list[tuple[int, str]] = []
        self._read(listing.stdout.splitlines())

    def _read(self, lines: Iterable[str]) -> None:
        found: list[tuple[int, str, str]] = []
        for line in lines:
            if head := re.fullmatch(r"([0-9a-f]+) <(.*)>:", line):
                self.functions.setdefault(head[2], int(head[1], 16))
                self._ranges.append((int(head[1], 16), head[2]))
            elif match := re.match(r"\s*([0-9a-f]+):\t(\S+)(?:\s+(.*))?$", line):
                operands = re.split("[@;]", match[3] or "")[0].strip()
                found.append((int(match[1], 16), match[2].split(".")[0], operands))
        for (address, name, operands), follower in zip(found, [*found[1:], (0, "", "")], strict=True):
            self.instructions[address] = Instruction(name, operands, follower[0])

    def trace(self, lines: Iterable[str]) -> list[Counter[Edge]]:
        """How often each pair of blocks was executed between the entry of `ml_invoke` and its return: before the first
        step of the program, and in each that was executed."""
        begin, step = self.functions["ml_invoke"], self.functions["ml_invoke_step"]
        returns = {
            each.next for each in self.instructions.values() if each.name in ("bl", "b") and each.target == begin
        }
        trace: list[Counter[Edge]] = [Counter()]
        last: int | None = None
        for address in _addresses(lines):
            if last is None and address != begin:
                continue
            if last is not None:
                trace[-1][last, address] += 1
            if address in returns:
                return trace
            if address == step:
                trace.append(Counter())
            last = address
        raise ToolError("the emulator's log does not show an inference", "Update QEMU: 7.2 does.")

    def block(self, address: int, stop: int | None) -> Iterator[Instruction]:
        """The instructions from `address` to the first that may lead elsewhere, or to `stop`."""
        while address in self.instructions and address != stop:
            instruction = self.instructions[address]
            yield instruction
            if instruction.ends_block:
                return
            address = instruction.next


class _Timing:
    def __init__(self, code: Code, core: Core, flash_wait: int) -> None:
        self.code, self.core, self.flash_wait = code, core, flash_wait
        self._known: dict[Edge, tuple[int, int]] = {}

    def sum(self, edges: Mapping[Edge, int]) -> tuple[int, int]:
        """(instructions, cycles) of all that was executed."""
        instructions = cycles = 0
        for edge, times in edges.items():
            if edge not in self._known:
                self._known[edge] = self._edge(*edge)
            count, cost = self._known[edge]
            instructions, cycles = instructions + count * times, cycles + cost * times
        return instructions, cycles

    def _edge(self, address: int, follower: int) -> tuple[int, int]:
        """(instructions, cycles) of the block at `address` where `follower` comes next."""
        block = list(self.code.block(address, None))
        end, target = block[-1].next, block[-1].target
        # The emulator cuts a straight run where a page begins, and elsewhere.
        if address < follower < end and (follower != target or follower % PAGE_BYTES == 0):
            block = list(self.code.block(address, follower))
            return len(block), self._straight(block)
        taken = self.core.branch + self.flash_wait if follower != end else 0
        return len(block), self._straight(block) + taken

    def _straight(self, block: Sequence[Instruction]) -> int:
        cycles, after_memory = 0, False
        literals = sum(each.name.startswith("ldr") and "[pc" in each.operands for each in block)
        paired = False
        for before, each in zip([None, *block], block, strict=False):
            cost = each.cycles(self.core, after_memory)
            paired = self.core.issues_two and not paired and before is not None and _goes_along(before, each)
            cycles += 0 if paired and cost == 1 else cost
            # A value that was loaded just before is not there yet.
            cycles += self.core.issues_two and before is not None and before.is_memory and _needs(before, each)
            after_memory = each.is_memory
        return cycles + literals * self.flash_wait


def _goes_along(first: Instruction, second: Instruction) -> bool:
    """Whether the M7 can issue `second` with `first`: not two accesses of memory, no two multiplications, nothing that
    needs the other's result."""
    multiplies = [each.name.startswith(("mul", "ml", "sm", "um")) for each in (first, second)]
    memory = first.is_multiple or second.is_multiple or (first.is_memory and second.is_memory)
    return not (memory or all(multiplies) or _needs(first, second))


def _needs(first: Instruction, second: Instruction) -> bool:
    """Whether `second` reads the first register that `first` names, which most instructions write."""
    result = first.operands.partition(",")[0].strip("[]{} ")
    return bool(result and re.search(rf"\b{re.escape(result)}\b", second.operands.partition(",")[2]))


def _addresses(lines: Iterable[str]) -> Iterator[int]:
    """The address of each block in the lines "Trace 0: HOST [BASE/ADDRESS/FLAGS/FLAGS] NAME"."""
    for line in lines:
        if line.startswith("Trace "):
            start = line.find("/") + 1
            yield int(line[start : line.find("/", start)], 16)
