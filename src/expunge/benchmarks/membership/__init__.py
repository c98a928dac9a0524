"""Who was in: membership attacks on the digits, before and after unlearning."""
