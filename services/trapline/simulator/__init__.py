"""A telescope that is not there: images with known truth, served as a correlator would or written as FITS."""
