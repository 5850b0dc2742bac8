"""What a benchmark's verdicts mean in numbers: `outcomes` turns judged answers into rates."""
