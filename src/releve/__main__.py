"""``python -m releve``, which ``torchrun -m releve`` starts too."""

from releve.cli import main

if __name__ == "__main__":
    main()
