mod balance;
mod fault;
mod limit;
mod outlier;
mod strict;
