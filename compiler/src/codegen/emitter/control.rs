//! Loops and branches. A body is emitted once, whatever the number of turns.

use super::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

impl Emitter<'_, '_> {
    /// Emits `for i in start..end step step { body }` (64-bit, start may equal end). As with all loops, `body` is called once.
    pub fn range(&mut self, start: Value, end: Value, step: usize, mut body: impl FnMut(&mut Self, Value)) {
        self.walk(start, end, |e, i| {
            body(e, i);
            e.int(step)
        });
    }

    /// Emits a loop over 0..n, or only its body where n is 1.
    pub fn times(&mut self, n: usize, mut body: impl FnMut(&mut Self, Value)) {
        let zero = self.int(0);
        match n {
            0 => return,
            1 => return body(self, zero),
            _ => {}
        }
        let end = self.int(n);
        self.range(zero, end, 1, body);
    }

    /// Emits the body `n` times over, counting down: two instructions a turn less than [`Emitter::times`], for short bodies that need no
    /// index.
    pub fn repeat(&mut self, n: usize, body: impl FnOnce(&mut Self)) {
        match n {
            0 => return,
            1 => return body(self),
            _ => {}
        }
        let n = self.int(n);
        let counter = self.var(n);
        let (again, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().jump(again, &[]);
        self.b.switch_to_block(again);
        body(self);
        let left = self.b.use_var(counter);
        let left = self.b.ins().iadd_imm_s(left, -1);
        self.b.def_var(counter, left);
        self.b.ins().brif(left, again, &[], after, &[]);
        self.b.seal_block(again);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    /// Emits a loop from `start` while below `end`; the body gives the step.
    pub fn walk(&mut self, start: Value, end: Value, mut body: impl FnMut(&mut Self, Value) -> Value) {
        let counter = self.var(start);
        self.repeat_while(
            |e| {
                let i = e.b.use_var(counter);
                e.b.ins().icmp(IntCC::SignedLessThan, i, end)
            },
            |e| {
                let i = e.b.use_var(counter);
                let step = body(e, i);
                let next = e.b.ins().iadd(i, step);
                e.b.def_var(counter, next);
            },
        );
    }

    /// Emits `while condition { body }`.
    pub fn repeat_while(&mut self, mut condition: impl FnMut(&mut Self) -> Value, mut body: impl FnMut(&mut Self)) {
        let (head, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let more = condition(self);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        body(self);
        self.b.ins().jump(head, &[]);
        self.b.seal_block(head);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
    }

    /// Emits `if condition { body }`.
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        body(self);
        self.b.ins().jump(after, &[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    /// Emits `if condition { then } else { other }`.
    pub fn branch<R>(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self) -> R,
        other: impl FnOnce(&mut Self) -> R,
    ) -> (R, R) {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        let first = then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(no);
        self.b.seal_block(no);
        let second = other(self);
        self.b.ins().jump(after, &[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
        (first, second)
    }

    /// Returns from a function without results if `condition`.
    pub fn leave_if(&mut self, condition: Value) {
        let (out, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, out, &[], after, &[]);
        self.b.switch_to_block(out);
        self.b.seal_block(out);
        self.b.ins().return_(&[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }
}
