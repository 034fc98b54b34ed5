"""Pictures with exactly known answers, drawn by this project, and the training rows made from them."""
