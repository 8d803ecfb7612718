"""The gate's checks, one family a file. Each takes policy and facts and gives back checks; none reads anything else."""
