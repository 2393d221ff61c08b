"""What ``import knexa`` offers: runs experiments, and reads finished ones into data frames."""
